"""Why the model is wrong: its mistakes, their Grad-CAM maps and the review page."""

from interpret.gradcam import grad_cam
from interpret.interpretation import GradCAMInterpretation
from interpret.review import review

__all__ = ['GradCAMInterpretation', 'grad_cam', 'review']
