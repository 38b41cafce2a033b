"""An object tree of known classes as a folder of plain data, and back. No code is ever stored.

`write_folder` stores arrays and tensors as safetensors, strings as Arrow IPC, and the rest as JSON;
`read_folder` checks each byte against checksums, maps the arrays into memory, and makes objects of
the classes in `_classes.py` alone.
"""

from skmars.utils._folder._atomic import check_replaceable
from skmars.utils._folder._classes import allow
from skmars.utils._folder._folder import read_folder, write_folder
from skmars.utils._folder._manifest import checksum_of

__all__ = ["allow", "check_replaceable", "checksum_of", "read_folder", "write_folder"]
