"""The compiled filter as a value: instructions and map layouts, to and from the JSON file that the compiler writes.

The file holds no descriptor and no address: where an instruction refers to a map, ``references`` names it.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from .bpf import MapLayout

LOAD_IMMEDIATE = 0x18  # BPF_LD | BPF_IMM | BPF_DW: sixteen bytes
MAP_BY_FD = 1  # its source register when the immediate is a map's descriptor
LICENCE = "GPL"  # what the program tells the kernel; filter.c may be taken under it


@dataclass(frozen=True, slots=True)
class FilterObject:
    """A compiled program.

    :param instructions: eight bytes each, map references set to 0.
    :param maps: every map of the program.
    :param references: index of an instruction, name of the map it loads.
    """

    instructions: bytes
    maps: tuple[MapLayout, ...]
    references: tuple[tuple[int, str], ...]

    @classmethod
    def from_dump(cls, instructions: bytes, maps: Mapping[int, MapLayout]) -> FilterObject:
        """From instructions as the compiler gives them, with its own descriptors in them."""
        code = bytearray(instructions)
        references = []
        for index in range(0, len(code), 8):
            if code[index] == LOAD_IMMEDIATE and code[index + 1] >> 4 == MAP_BY_FD:
                (fd,) = struct.unpack_from("=i", code, index + 4)
                references.append((index // 8, maps[fd].name))
                struct.pack_into("=i", code, index + 4, 0)
        return cls(bytes(code), tuple(maps.values()), tuple(references))

    def linked(self, descriptors: Mapping[str, int]) -> bytes:
        """Instructions that refer to these maps."""
        code = bytearray(self.instructions)
        for index, name in self.references:
            struct.pack_into("=i", code, index * 8 + 4, descriptors[name])
        return bytes(code)

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps(
            {
                "instructions": base64.b64encode(self.instructions).decode("ascii"),
                "maps": [asdict(layout) for layout in self.maps],
                "references": self.references,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> FilterObject:
        """The inverse; ``ValueError`` or ``KeyError`` or ``TypeError`` when it is no such file."""
        values = json.loads(text)
        return cls(
            base64.b64decode(values["instructions"], validate=True),
            tuple(MapLayout(**layout) for layout in values["maps"]),
            tuple((int(index), str(name)) for index, name in values["references"]),
        )
