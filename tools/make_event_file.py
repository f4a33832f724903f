"""Writes crates/train/tests/data/events.tfevents with TensorBoard's own writer, for the test of ours.

    pip install tensorboard==2.21.0
    python tools/make_event_file.py
"""

from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

OUT = Path(__file__).parent.parent / "crates/train/tests/data/events.tfevents"
FIGURES = (("train/loss", 0.5), ("train/learning_rate", 2e-5))

with OUT.open("wb") as file:
    writer = RecordWriter(file)
    summary = Summary(value=[Summary.Value(tag=tag, simple_value=figure) for tag, figure in FIGURES])
    for event in (
        Event(wall_time=1.5, file_version="brain.Event:2"),
        Event(wall_time=2.5, step=300, session_log=SessionLog(status=SessionLog.START)),
        Event(wall_time=3.25, step=1_000_000, summary=summary),
    ):
        writer.write(event.SerializeToString(deterministic=True))
