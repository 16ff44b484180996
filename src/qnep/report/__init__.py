"""One self-contained HTML page about a run."""

from qnep.report.page import build_page

__all__ = ["build_page"]
