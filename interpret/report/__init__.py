"""The review page and the model card."""
