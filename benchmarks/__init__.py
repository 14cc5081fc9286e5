"""What authentication costs, beside the least that could do the same and beside its peers: ``python -m benchmarks``.

Nothing here is a test, and no figure is an absolute: each is a ratio to a limit measured in the same run.
"""
