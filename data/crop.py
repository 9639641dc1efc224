"""Which part of a photograph the network sees."""

import albumentations as A
import numpy as np

from data.sizes import Size

Box = tuple[float, float, float, float]  # left, top, width, height; fractions of the image's width and height


def visible_part(compose: A.Compose, size: Size) -> Box:
    """The part of an image of `size` (height, width) that remains after the resizing and cropping of `compose`."""
    height, width = size
    places = A.KeypointParams('xy', remove_invisible=False)
    geometry = A.Compose([t for t in compose.transforms if isinstance(t, A.DualTransform)], keypoint_params=places)
    done = geometry(image=np.zeros((height, width, 3), np.uint8), keypoints=[(0, 0), (width, height)])
    (left, top), (right, bottom) = (tuple(map(float, corner)) for corner in done['keypoints'])  # of the whole image
    h, w = done['image'].shape[:2]
    return -left / (right - left), -top / (bottom - top), w / (right - left), h / (bottom - top)
