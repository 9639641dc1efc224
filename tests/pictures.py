"""Find overlapping texts in a figure."""

from matplotlib import pyplot as plt


def in_view(axis, tick) -> bool:
    low, high = sorted(axis.get_view_interval())
    return low <= tick.get_loc() <= high


def overlaps(fig) -> list[tuple[str, str]]:
    """Pairs of visible texts that overlap."""
    fig.draw_without_rendering()
    axes = [axis for ax in fig.axes for axis in (ax.xaxis, ax.yaxis)]
    outside = {t.label1 for a in axes for t in a.get_major_ticks() if not in_view(a, t)}
    texts = [t for t in fig.findobj(plt.Text) if t.get_visible() and t.get_text() and t not in outside]
    boxes = [(t.get_text(), t.get_window_extent()) for t in texts]
    return [(a, b) for i, (a, x) in enumerate(boxes) for b, y in boxes[i + 1 :] if x.overlaps(y)]
