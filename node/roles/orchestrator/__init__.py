"""The orchestrator role: a pool of workers, the jobs that it takes, and the bundles it sends out.

`coordinator/` decides and does nothing else; `service.py` has its commands carried out.
"""
