"""One ring at one stage: scheduling at stage 0, batches, edges, the stage's step."""
