"""The routes of improve and propose."""

from __future__ import annotations

from typing import Any

import shapely
from fastapi import FastAPI

from hybridseg.reviewing.desk import Desk
from hybridseg.reviewing.objects import Object
from hybridseg.reviewing.server.messages import Learn
from hybridseg.reviewing.teaching import Job

MOST_SHOWN = 1_000
"""Outlines of each kind that are shown of what would change; all are counted."""


def add_learning(app: FastAPI, desk: Desk) -> None:
    """Add the routes of improve and propose.

    Args:
        app: of a review.
        desk: what it is about.
    """
    teaching = desk.teaching

    @app.post("/api/improve")
    def begin(asked: Learn) -> dict[str, Any]:
        """Learn from the decisions, or look for what is missing, in the background; nothing changes on the map."""
        teaching.begin(asked.kind, asked.label)
        return _job(teaching.job)

    @app.get("/api/improve")
    def how_far() -> dict[str, Any]:
        """How far that is; when it is ready, what would be new, gone and changed."""
        return _job(teaching.job)

    @app.post("/api/improve/agree")
    def agree() -> dict[str, Any]:
        """Put what was found on the map, as one action; what was decided meanwhile stays as it is."""
        job = teaching.take()
        assert job.found is not None
        done = teaching.agree(job.found, desk.who, job.kind)
        return {"head": done.seq, "changed": len(done.changed), "queue": len(desk.line)}

    @app.post("/api/improve/forget")
    def forget() -> dict[str, Any]:
        """Drop what was found, or will be."""
        teaching.forget()
        return _job(None)


def _job(job: Job | None) -> dict[str, Any]:
    if job is None:
        return {"state": "none"}
    state = "failed" if job.error else "running" if job.found is None else "ready"
    told: dict[str, Any] = {"state": state, "kind": job.kind, "class": job.label}
    if job.found is None:
        return {**told, "sweep": job.steps.sweep, "done": job.steps.done, "total": job.steps.total, "error": job.error}
    parts = {"new": job.found.new, "gone": job.found.gone, "changed": job.found.changed}
    features = [_sketch(one, what) for what, part in parts.items() for one in part[:MOST_SHOWN]]
    told |= {"kept": job.found.kept, "regrouped": sum(bool(one.parents) for one in job.found.new)}
    return {**told, **{what: len(part) for what, part in parts.items()}, "features": features}


def _sketch(one: Object, what: str) -> dict[str, Any]:
    return {"type": "Feature", "properties": {"what": what}, "geometry": shapely.geometry.mapping(one.geometry)}
