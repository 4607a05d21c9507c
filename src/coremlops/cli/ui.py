"""`coremlops ui`: MLflow's own web pages on the project's store."""

from __future__ import annotations

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--project", type=Path, default=Path(), metavar="DIR", help="the project (default: this folder)"
    )
    parser.add_argument(
        "--tracking-uri", metavar="URI", help="where MLflow keeps runs (default: the project's)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=5000, help="port to listen on (default: %(default)s)")
    parser.add_argument(
        "--wait",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="how long to wait for unsent runs (default: 30)",
    )
    parser.epilog = "example: coremlops ui --project faces --port 5001"


def run(args: argparse.Namespace) -> int:
    """Send what is not sent, then become MLflow's server; returns only on an error."""
    from coremlops.pipeline.address import tracking_uri
    from coremlops.pipeline.project import find_project, load_project
    from coremlops.tracking.web import serve

    project = load_project(find_project(args.project))
    uri = tracking_uri(project, args.tracking_uri)
    return serve(project.root, uri, host=args.host, port=args.port, wait_s=args.wait)
