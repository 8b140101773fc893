"""Ways to tell people: mail, webhook, SNMP trap, syslog."""
