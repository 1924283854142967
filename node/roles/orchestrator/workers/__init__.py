"""The pool's workers and validators: watched, invited, loaded with stages."""
