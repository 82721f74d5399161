"""Saved reports as one self-contained HTML page (no network access).

analysis   bottlenecks, gradient trend and intervals: pure functions over a report's layers and parameters
charts     plots as coordinates and SVG path data
network    layout of the layer graph: node positions and edge paths
tables, findings, plots, beside
           |            parts of the page as text and formatted numbers
shown      view models: the types that the template reads
view       converts a report into view models: text sanitised, numbers formatted
document   renders template, style and script into one file
"""

from intrain_onnx.report.page.document import page

__all__ = ["page"]
