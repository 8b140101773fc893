"""The compiled filter as a value: instructions and map layouts, to and from the JSON file that the compiler writes.

The file holds no descriptor and no address: where an instruction refers to a map, ``references`` names it. It is text
in short lines, so that what changed between two versions can be seen.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from .bpf import MapLayout

LOAD_IMMEDIATE = 0x18  # BPF_LD | BPF_IMM | BPF_DW: sixteen bytes
MAP_BY_FD = 1  # its source register when the immediate is a map's descriptor
LINE = 32  # bytes of instructions in a line of the file
LICENCE = "GPL"  # what the program tells the kernel; filter.c may be taken under it


@dataclass(frozen=True, slots=True)
class FilterObject:
    """A compiled program.

    :param instructions: eight bytes each, map references set to 0.
    :param maps: every map of the program.
    :param references: index of an instruction, name of the map it loads.
    :param sources: hash of the C files that it was built from.
    :param machine: for which it was built, as ``uname -m`` says it.
    """

    instructions: bytes
    maps: tuple[MapLayout, ...]
    references: tuple[tuple[int, str], ...]
    sources: str = ""
    machine: str = ""

    @classmethod
    def from_dump(
        cls, instructions: bytes, maps: Mapping[int, MapLayout], sources: str = "", machine: str = ""
    ) -> FilterObject:
        """From instructions as the compiler gives them, with its own descriptors in them."""
        code = bytearray(instructions)
        references = []
        for index in range(0, len(code), 8):
            if code[index] == LOAD_IMMEDIATE and code[index + 1] >> 4 == MAP_BY_FD:
                (fd,) = struct.unpack_from("=i", code, index + 4)
                references.append((index // 8, maps[fd].name))
                struct.pack_into("=i", code, index + 4, 0)
        return cls(bytes(code), tuple(maps.values()), tuple(references), sources, machine)

    def linked(self, descriptors: Mapping[str, int]) -> bytes:
        """Instructions that refer to these maps."""
        code = bytearray(self.instructions)
        for index, name in self.references:
            struct.pack_into("=i", code, index * 8 + 4, descriptors[name])
        return bytes(code)

    def to_json(self) -> str:
        """The file's text."""
        lines = [self.instructions[at : at + LINE].hex(" ", 8) for at in range(0, len(self.instructions), LINE)]
        parts = {
            "sources": json.dumps(self.sources),
            "machine": json.dumps(self.machine),
            "maps": _listed(json.dumps(asdict(layout)) for layout in self.maps),
            "references": _listed(json.dumps(each) for each in self.references),
            "instructions": _listed(json.dumps(line) for line in lines),
        }
        return "{\n" + ",\n".join(f'"{name}": {text}' for name, text in parts.items()) + "\n}\n"

    @classmethod
    def from_json(cls, text: str) -> FilterObject:
        """The inverse; ``ValueError`` or ``KeyError`` or ``TypeError`` when it is no such file."""
        values = json.loads(text)
        return cls(
            bytes.fromhex(" ".join(values["instructions"])),
            tuple(MapLayout(**layout) for layout in values["maps"]),
            tuple((int(index), str(name)) for index, name in values["references"]),
            str(values["sources"]),
            str(values["machine"]),
        )


def _listed(lines: Iterable[str]) -> str:
    return "[\n" + ",\n".join(lines) + "\n]"
