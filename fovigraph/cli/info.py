"""``fovigraph info``: the levels of a network, and what each costs."""

from __future__ import annotations

import argparse
import json
from typing import Any

import torch

from fovigraph._table import format_table
from fovigraph.cli.networks import build, read_config
from fovigraph.cli.output import say
from fovigraph.geometry import LAYOUTS, RingLayout
from fovigraph.models.cost import describe
from fovigraph.sensing import RetinaConfig


def info(args: argparse.Namespace) -> int:
    """Print the levels of the network ``args.model``, and their cost."""
    config = read_config(args.model, args.overrides)
    with torch.device("meta"):  # its weights are not looked at
        report = describe(build(config, device="meta"))
    say(json.dumps({"model": args.model, **report}, indent=2) if args.json else _table(report))
    return 0


def _retina(report: dict[str, Any]) -> str:
    """Say what the retina's layout is, and what else is not as in the default configuration."""
    usual = RetinaConfig()
    names = ("field_geometry", "extent", "norm", "max_val", "matching")
    said = {"layout": report["layout"]}
    said |= {name: report[name] for name in names if report[name] != getattr(usual, name)}
    return "Retina: " + ", ".join(f"{name} {value}" for name, value in said.items()) + "."


def _table(report: dict[str, Any]) -> str:
    has_rings = issubclass(LAYOUTS[report["layout"]], RingLayout)
    rings = "rings" if has_rings else "resolution"
    blank: dict[str, Any] = {"nodes": None, rings: None, "k": None, "cells": None, "edges": None}
    rows = []
    for level in report["levels"]:
        place = {rings if key == "resolution" else key: value for key, value in level.items()}
        place["FLOPs"] = place.pop("flops")
        rows.append(place)
    for part in ("projector", "head", "total"):
        cost = report[part]
        rows.append(
            {"level": part, **blank, "parameters": cost["parameters"], "FLOPs": cost["flops"]}
        )
    count = report["fixations"]
    return "\n".join(
        (
            f"Field of view {report['field_of_view_degrees']:g}°, cmf_a "
            f"{report['cmf_a_degrees']:g}°, {count} fixation{'s' if count > 1 else ''} an image.",
            _retina(report),
            "",
            format_table(rows),
            "",
            "k: neighbours of a node, in the level above the row; cells: of the kernel.",
            "FLOPs: useful arithmetic for one fixation (multiply and add are two); "
            f"{count * report['total']['flops']:,} an image.",
        )
    )
