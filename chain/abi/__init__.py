"""How calls, answers, errors and events of the contracts are written: ABIs, codec, values."""
