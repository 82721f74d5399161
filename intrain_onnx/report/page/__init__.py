"""Saved reports as one HTML page that needs no network.

analysis   what stands out along depth: pure functions over a report's layers and parameters
charts     numbers as the geometry of a plot
network    layers and the edges between them as the geometry of a graph
tables, findings, plots
           parts of the page, in words and numbers
shown      what the template shows, as types
view       a report as the template shows it: text made safe, numbers made words
document   the template, the style and the script in one file
"""

from intrain_onnx.report.page.document import page

__all__ = ["page"]
