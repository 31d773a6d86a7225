import json

import pytest

from clq.runtime.metadata import Metadata
from reference.settings import SETTINGS

METADATA = Metadata(
    SETTINGS,
    pixel_mean=(123.675, 116.28, 103.53),
    pixel_std=(58.395, 57.12, 57.375),
    alpha=0.5,
    config="MODEL:\n  META_ARCHITECTURE: CLQ\n",
    clq_version="0.1.0",
    weights_sha256="00ff",
    fixed_size=(320, 320),
    parity={"box": 1e-4},
)


def test_metadata_survives_a_file_and_names_of_others():
    props = METADATA.to_props()
    assert all(isinstance(value, str) for value in props.values())
    assert json.loads(props["class_names"]) == ["bar", "düne: 'x'"]
    assert Metadata.from_props({**props, "author": "somebody"}) == METADATA


@pytest.mark.parametrize("name", sorted(METADATA.to_props().keys() - {"format", "checksum"}))
def test_each_altered_or_lost_value_is_noticed(name):
    props = METADATA.to_props()
    with pytest.raises(ValueError, match="altered after the export"):
        Metadata.from_props({**props, name: json.dumps("another")})
    del props[name]
    with pytest.raises(ValueError, match="altered after the export"):
        Metadata.from_props(props)


@pytest.mark.parametrize(
    "props, said",
    [
        ({}, "no detector"),
        ({"format": "1"}, "no detector"),
        ({**METADATA.to_props(), "format": "2"}, "format 2, but this CLQ reads format 1"),
    ],
)
def test_files_of_others_are_told(props, said):
    with pytest.raises(ValueError, match=said):
        Metadata.from_props(props)
