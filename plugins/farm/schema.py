"""The schema of ``<farm>``: names, defaults and what a value may be."""

_COUNT = """<xs:simpleType><xs:restriction base="xs:unsignedInt">
<xs:minInclusive value="3"/><xs:maxInclusive value="1000"/></xs:restriction></xs:simpleType>"""

_NODE = """<xs:element name="node" minOccurs="0" maxOccurs="unbounded"><xs:complexType>
<xs:attribute name="name" type="xs:string"/><xs:attribute name="addr" type="xs:string"/></xs:complexType>
</xs:element>"""

FARM_XSD = f"""<xs:element name="farm"><xs:complexType>
<xs:choice minOccurs="0" maxOccurs="unbounded">
  <xs:element name="lan"><xs:complexType><xs:sequence>{_NODE}</xs:sequence>
    <xs:attribute name="name" type="sk:ident" default="default"/></xs:complexType></xs:element>
  {_NODE}</xs:choice>
<xs:attribute name="port" type="sk:port"/>
<xs:attribute name="pulse" type="sk:duration" default="35"/>
<xs:attribute name="mlost_count" default="5">{_COUNT}</xs:attribute>
<xs:attribute name="slost_count" default="5">{_COUNT}</xs:attribute>
</xs:complexType></xs:element>"""
