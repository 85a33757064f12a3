"""Closed-loop discovery: the stable compounds of a space with as few calculations as possible."""
