"""One page that shows a segmentation and what led to it, in files, notebooks, reports and the service.

``payload(results)`` turns segmentations and explanations into plain JSON data, ``page(data)`` into one HTML page that
needs no network; ``explorer.js`` draws such data into any element, ``GocaExplorer.mount(element, data)``, with the
style ``explorer.css``. See docs/explorer.md.
"""

from goca.explorer.page import asset, iframe, page, policy, save_page, script_json
from goca.explorer.payload import payload

__all__ = ["asset", "iframe", "page", "payload", "policy", "save_page", "script_json"]
