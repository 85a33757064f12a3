"""One page, ``report.html``, that shows what a folder holds: readable from disk, without a network.

The page is a view of stored runs and of the files that commands left beside them. Nothing is trained for it.
"""

from eval.report.write import PAGE, write_page

__all__ = ["PAGE", "write_page"]
