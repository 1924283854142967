"""The node's HTTP API: health, metrics, what the node sees, and jobs."""

from node.http.app import create_app
from node.http.server import serve_http
from node.http.view import NodeView

__all__ = ["NodeView", "create_app", "serve_http"]
