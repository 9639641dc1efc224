"""Why the model is wrong: Grad-CAM maps, the mistakes they explain, and the pages that show them."""
