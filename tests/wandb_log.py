"""Read W&B's offline files without its API: protobuf records in LevelDB's log format."""

import json
from collections.abc import Iterator
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, HEADER = 2**15, 7  # bytes; the header of each part of a record: checksum (4), length (2), kind (1)
WHOLE, LAST = 1, 4


def records(file: Path) -> Iterator[Record]:
    """All complete records of a .wandb file, in order; the file may still be being written."""
    content, at, record = file.read_bytes(), HEADER, b''
    while at + HEADER < len(content):
        if BLOCK - at % BLOCK < HEADER:  # no room for another part
            at += BLOCK - at % BLOCK
        length, kind = int.from_bytes(content[at + 4 : at + 6], 'little'), content[at + 6]
        part = content[at + HEADER : at + HEADER + length]
        if len(part) < length:
            return
        record += part
        at += HEADER + length
        if kind in (WHOLE, LAST):
            yield Record.FromString(record)
            record = b''


def history(file: Path) -> list[dict]:
    """The logged values, one dict per step."""
    rows = [record.history.item for record in records(file) if record.HasField('history')]
    return [{item.key or '.'.join(item.nested_key): json.loads(item.value_json) for item in row} for row in rows]
