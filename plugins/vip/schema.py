"""The schema of ``<vip>``: names, defaults and what a value may be."""


def _one_of(*values: str) -> str:
    inside = "".join(f'<xs:enumeration value="{each}"/>' for each in values)
    return f'<xs:simpleType><xs:restriction base="xs:string">{inside}</xs:restriction></xs:simpleType>'


_ADDR = """<xs:element name="virtual_addr" maxOccurs="unbounded"><xs:complexType>
<xs:attribute name="addr" type="sk:macro" use="required"/>
<xs:attribute name="where" type="xs:NMTOKEN"/>
<xs:attribute name="check" type="sk:onoff" default="on"/>
<xs:attribute name="connections" type="sk:onoff" default="off"/>
<xs:attribute name="netmask" type="sk:macro"/></xs:complexType></xs:element>"""

_INTERFACE = f"""<xs:element name="interface" maxOccurs="unbounded"><xs:complexType><xs:all>
  <xs:element name="virtual_interface" minOccurs="0"><xs:complexType><xs:sequence>{_ADDR}</xs:sequence>
    <xs:attribute name="type" use="required">{_one_of("vmac_directed", "vmac_invisible")}</xs:attribute>
    <xs:attribute name="addr" type="sk:macro"/></xs:complexType></xs:element>
  <xs:element name="real_interface" minOccurs="0"><xs:complexType><xs:sequence>{_ADDR}</xs:sequence></xs:complexType>
  </xs:element></xs:all>
<xs:attribute name="check" type="sk:onoff" default="on"/>
<xs:attribute name="arpreroute" type="sk:onoff" default="off"/>
<xs:attribute name="arpinterval" type="sk:duration" default="60"/>
<xs:attribute name="arpelapse" type="sk:duration" default="1200"/>
<xs:attribute name="name"><xs:simpleType><xs:restriction base="xs:string">
  <xs:pattern value="[^\\s/]{{1,15}}"/></xs:restriction></xs:simpleType></xs:attribute>
</xs:complexType></xs:element>"""

_PORT = """<xs:simpleType><xs:union memberTypes="sk:port"><xs:simpleType><xs:restriction base="xs:string">
<xs:enumeration value="*"/></xs:restriction></xs:simpleType></xs:union></xs:simpleType>"""

_GROUP = f"""<xs:element name="group" maxOccurs="unbounded"><xs:complexType>
<xs:choice minOccurs="0" maxOccurs="unbounded">
  <xs:element name="cluster"><xs:complexType><xs:sequence>
    <xs:element name="host" maxOccurs="unbounded"><xs:complexType>
      <xs:attribute name="name" type="sk:ident" use="required"/>
      <xs:attribute name="power" default="1"><xs:simpleType><xs:restriction base="xs:unsignedInt">
        <xs:minInclusive value="0"/><xs:maxInclusive value="65535"/></xs:restriction></xs:simpleType></xs:attribute>
    </xs:complexType></xs:element></xs:sequence></xs:complexType></xs:element>
  <xs:element name="rule"><xs:complexType>
    <xs:attribute name="virtual_addr" type="sk:macro" default="*"/>
    <xs:attribute name="port" default="*">{_PORT}</xs:attribute>
    <xs:attribute name="proto" use="required">{_one_of("tcp", "udp", "arp")}</xs:attribute>
    <xs:attribute name="filter" use="required">{_one_of("on_addr", "on_port", "on_ipid")}</xs:attribute>
  </xs:complexType></xs:element></xs:choice>
<xs:attribute name="name" type="sk:ident" use="required"/></xs:complexType></xs:element>"""

VIP_XSD = f"""<xs:element name="vip"><xs:complexType><xs:all>
<xs:element name="interface_list"><xs:complexType><xs:sequence>{_INTERFACE}</xs:sequence></xs:complexType></xs:element>
<xs:element name="loadbalancing_list" minOccurs="0"><xs:complexType><xs:sequence>{_GROUP}</xs:sequence></xs:complexType>
</xs:element></xs:all>
<xs:attribute name="tcpreset" type="sk:onoff" default="on"/>
<xs:attribute name="scriptcontrol" type="sk:onoff" default="off"/>
</xs:complexType></xs:element>"""
