"""Studies: many runs of many models, kept in a store, and what people look at made from it.

`plan` says what to run, `registry` which models there are, `job` trains one of them, `store` keeps the runs,
`runner` brings the three together on one machine or many. `views`, `tables`, `reproduce` and `sizes` show
what is stored; they never train.
"""
