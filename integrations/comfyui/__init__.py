"""Copy or link this folder into ComfyUI's ``custom_nodes``; goca has to be installed in ComfyUI's Python."""

from goca.integrations.comfyui import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
