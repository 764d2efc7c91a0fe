"""The format of ADNOMALY_HOME."""

import pytest

from adnomaly.errors import NewerVersion
from adnomaly.home import FORMAT, Home


def test_a_home_has_the_format_of_the_version_that_used_it(tmp_path):
    Home(tmp_path).claim()
    assert (tmp_path / "format").read_text() == str(FORMAT)
    Home(tmp_path).claim()


def test_a_home_of_an_older_version_is_taken_over(tmp_path):
    (tmp_path / "format").write_text("0")
    Home(tmp_path).claim()
    assert (tmp_path / "format").read_text() == str(FORMAT)


def test_a_home_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "format").write_text(str(FORMAT + 1))
    with pytest.raises(NewerVersion, match="written by a newer version"):
        Home(tmp_path).claim()
    assert (tmp_path / "format").read_text() == str(FORMAT + 1)
