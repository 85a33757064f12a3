"""Closed-loop discovery: the compounds of a target with as few calculations as possible.

A `Campaign` is one file. `Campaign.ask` says which compounds to calculate next, `Campaign.tell` takes what
came out; `run_campaign` does both until a budget is spent.
"""

from agents.discovery.campaign import Asked, Campaign, NothingLeft, Settings, Status, Told
from agents.discovery.energies import EnergySource, Outcome, load_energy
from agents.discovery.proposers import Known, Proposal, Proposer, SamplerProposer
from agents.discovery.run import run_campaign
from agents.discovery.surrogate import Belief, Ensemble, GaussianProcess, Surrogate

__all__ = [
    "Asked",
    "Belief",
    "Campaign",
    "EnergySource",
    "Ensemble",
    "GaussianProcess",
    "Known",
    "NothingLeft",
    "Outcome",
    "Proposal",
    "Proposer",
    "SamplerProposer",
    "Settings",
    "Status",
    "Surrogate",
    "Told",
    "load_energy",
    "run_campaign",
]
