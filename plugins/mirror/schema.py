"""The schema of ``<heart>`` and ``<rfs>``: names, defaults and what a value may be."""

_SERVER = """<xs:element name="server" minOccurs="0" maxOccurs="unbounded"><xs:complexType>
<xs:attribute name="addr" type="xs:string"/></xs:complexType></xs:element>"""


def _one_of(*values: str) -> str:
    inside = "".join(f'<xs:enumeration value="{each}"/>' for each in values)
    return f'<xs:simpleType><xs:restriction base="xs:string">{inside}</xs:restriction></xs:simpleType>'


HEART_XSD = f"""<xs:element name="heart"><xs:complexType>
<xs:choice minOccurs="0" maxOccurs="unbounded">
  <xs:element name="heartbeat"><xs:complexType><xs:sequence>{_SERVER}</xs:sequence>
    <xs:attribute name="name" type="sk:ident" use="required"/>
    <xs:attribute name="ident" type="sk:ident"/>
    <xs:attribute name="pulse" type="sk:duration"/>
    <xs:attribute name="timeout" type="sk:duration"/></xs:complexType></xs:element>
  {_SERVER}</xs:choice>
<xs:attribute name="port" type="sk:port"/>
<xs:attribute name="pulse" type="sk:duration" default="300"/>
<xs:attribute name="timeout" type="sk:duration" default="3000"/>
<xs:attribute name="permanent_arp" type="sk:onoff" default="off"/>
<xs:attribute name="isolation" default="alone">{_one_of("alone", "wait")}</xs:attribute>
</xs:complexType></xs:element>"""

_SIZE = """<xs:simpleType><xs:restriction base="xs:string"><xs:pattern value="[0-9]{1,16}[KMGTkmgt]?"/>
</xs:restriction></xs:simpleType>"""

_PATH = """<xs:attribute name="path" type="sk:macro"/><xs:attribute name="regexpath" type="sk:macro"/>"""

_REPLICATED = f"""<xs:element name="replicated"><xs:complexType>
<xs:choice minOccurs="0" maxOccurs="unbounded">
  <xs:element name="notreplicated"><xs:complexType>{_PATH}</xs:complexType></xs:element>
  <xs:element name="tocheck"><xs:complexType>
    <xs:attribute name="path" type="sk:macro" use="required"/></xs:complexType></xs:element></xs:choice>
<xs:attribute name="dir" type="sk:macro" use="required"/>
<xs:attribute name="mode">{_one_of("read_only")}</xs:attribute>
<xs:attribute name="size">{_SIZE}</xs:attribute>
<xs:attribute name="filesystem" default="ext4">{_one_of("ext4", "xfs")}</xs:attribute>
</xs:complexType></xs:element>"""

FOREIGN = (
    ("acl", ""),  # the file system of the volume has them anyway
    ("mountover", "the volume is always mounted over its directory"),
    ("packetsize", "the stream of blocks has sizes of its own"),
    ("reipacketsize", "resynchronisation reads and sends in sizes of its own"),
    ("ruzone_blocksize", "zones are 4 MiB"),
    ("roflags", "it is for Windows"),
    ("locktimeout", "locks are those of the volume's own file system"),
    ("sendtimeout", "iotimeout says when a secondary that does not answer is lost"),
    ("nbrei", "one ordered stream carries everything"),
    ("namespacepolicy", "blocks are replicated: names of files play no part"),
    ("reitimeout", "iotimeout says when a secondary that does not answer is lost"),
    ("reicommit", "what is resynchronised counts once it is on the secondary's disk"),
    ("reidetail", "the command status shows the bytes, the rate and the time that is left"),
    ("allocthreshold", "it is for Windows; volumes are sparse, and holes stay holes"),
    ("nbremconn", "one ordered stream carries everything"),
    ("checktime", "the volume is watched by its own keeper"),
    ("checkintv", "the volume is watched by its own keeper"),
    ("nfsbox_options", "there is no NFS in between"),
    ("scripts", "no script _rfs_* is called"),
    ("syncdelta", "a server whose data are not the newest never becomes primary by itself; a person says primforce"),
    ("syncat", "resynchronisation begins as soon as both servers are there"),
)
"""Attributes of ``<rfs>`` that mean nothing here, each with the reason; an empty one is not worth a word."""

_FOREIGN = "".join(f'<xs:attribute name="{name}" type="xs:string"/>' for name, _ in FOREIGN)

RFS_XSD = f"""<xs:element name="rfs"><xs:complexType>
<xs:choice minOccurs="0" maxOccurs="unbounded">
  {_REPLICATED}
  <xs:element name="flow"><xs:complexType><xs:sequence>{_SERVER}</xs:sequence>
    <xs:attribute name="name" type="xs:string"/></xs:complexType></xs:element></xs:choice>
<xs:attribute name="engine" type="sk:ident" default="block"/>
<xs:attribute name="async" default="none">{_one_of("second", "none")}</xs:attribute>
<xs:attribute name="durability" default="fsync">{_one_of("fsync", "write")}</xs:attribute>
<xs:attribute name="compression" default="auto">{_one_of("auto", "zstd", "off")}</xs:attribute>
<xs:attribute name="iotimeout" type="sk:duration" default="3"/>
<xs:attribute name="reiallowedbw"><xs:simpleType><xs:restriction base="xs:unsignedInt">
  <xs:minInclusive value="1"/><xs:maxInclusive value="1000000000"/></xs:restriction></xs:simpleType></xs:attribute>
<xs:attribute name="mountoversuffix" default="_For_SafeKit_Replication"><xs:simpleType>
  <xs:restriction base="xs:string"><xs:pattern value="[A-Za-z0-9._\\-]{{1,64}}"/></xs:restriction></xs:simpleType>
</xs:attribute>
<xs:attribute name="port" type="sk:port"/>
{_FOREIGN}
</xs:complexType></xs:element>"""
