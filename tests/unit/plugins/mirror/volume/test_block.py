"""The engine in the agent, as far as it needs no volume process."""

from types import SimpleNamespace

import pytest
from safekit_py.plugins.mirror import generation as gen
from safekit_py.plugins.mirror.generation import Generation
from safekit_py.plugins.mirror.model import Replicated, Rfs
from safekit_py.plugins.mirror.volume import store
from safekit_py.plugins.mirror.volume.block import BlockEngine


@pytest.fixture
def engine(tmp_path):
    paths = SimpleNamespace(var=tmp_path / "var", run=tmp_path / "run")
    context = SimpleNamespace(paths=paths, name="m", module_id=2, log=lambda *_: None)
    places = (Replicated(str(tmp_path / "full"), "full"), Replicated(str(tmp_path / "new"), "new"))
    made = BlockEngine(context, Rfs(places))
    made.folder.mkdir(parents=True)
    return made


def test_what_a_person_does_to_the_generation_of_a_stopped_module_is_seen(engine):
    assert engine.generation() == Generation()
    store.store(engine.folder, gen.first("d1"))
    assert engine.generation().data == "d1"
    store.store(engine.folder, gen.copied("uid", primary=True))
    assert engine.generation().data == "uid"
    (engine.folder / "generation.json").write_text("torn")
    assert engine.generation().data == "unreadable"
    engine.folder.rename(engine.folder.with_name("away"))
    assert engine.generation() == Generation()


def test_directories_that_a_volume_will_cover_for_the_first_time(engine, tmp_path):
    assert engine.covers() == ()
    (tmp_path / "new").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    assert engine.covers() == (str(tmp_path / "full"),)
    place = engine.places[0]
    place.note({"original": "", "settled": True})
    assert engine.covers() == ()


def test_its_port_follows_from_the_number_of_the_module(engine):
    assert engine.port == 5608
