"""What producers send and receive. Pure values; no IO outside `client/`.

Rules of change: fields are added, never renamed, and never change their meaning. Requests refuse fields that they do
not know (a typing error must not be silently ignored); results and events ignore them (an old reader survives a new
writer). `schema_version` counts the changes that a reader may want to know of.
"""

SCHEMA_VERSION = 2
