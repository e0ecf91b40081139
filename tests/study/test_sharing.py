"""Copies at a URL: whole, checked, begun again where they stopped; against an S3 server on this machine, and a folder."""

import os
import re
import signal
import subprocess
import sys
from threading import Thread

import fsspec
import pytest

from kc_utils.errors import MissingData
from kc_utils.study import sharing, store
from kc_utils.study.studyfile import load_study
from tests.conftest import ROOT
from tests.study.test_store import MADE, REPORT, ROWS, files

ACCESS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}


class Server:
    """moto's S3, which notes every request and calls `before`, which may refuse it, before it answers."""

    def __init__(self):
        pytest.importorskip("s3fs", reason="needs s3fs")
        moto = pytest.importorskip("moto.moto_server.werkzeug_app", reason="needs moto[s3], flask and flask-cors")
        from werkzeug.serving import make_server

        self.app, self.seen, self.before = moto.DomainDispatcherApplication(moto.create_backend_app), [], None
        self.http = make_server("127.0.0.1", 0, self, threaded=True)

    def __call__(self, environ, start):
        self.seen.append(environ["REQUEST_METHOD"])
        if self.before and self.before() == "refuse":
            start("403 Forbidden", [])
            return [b""]
        return self.app(environ, start)


@pytest.fixture(scope="module")
def running():
    server = Server()
    Thread(target=server.http.serve_forever, daemon=True).start()
    yield server
    server.http.shutdown()


@pytest.fixture
def s3(running, monkeypatch, tmp_path):
    """The server, with a bucket of the test's own."""
    for name, value in (ACCESS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{running.http.port}"}).items():
        monkeypatch.setenv(name, value)
    bucket, driver = tmp_path.name.replace("_", "-").lower(), fsspec.filesystem("s3")
    driver.mkdir(bucket)
    running.seen, running.url = [], f"s3://{bucket}/shared"
    yield running
    running.before = None
    driver.clear_instance_cache()


@pytest.fixture(params=["s3", "folder"])
def url(request, tmp_path):
    return request.getfixturevalue("s3").url if request.param == "s3" else str(tmp_path / "a folder" / "shared")


@pytest.fixture
def stored(study, monkeypatch):
    """A study of seven evaluations and their keys; the first six are stored, and copied three at a time."""
    monkeypatch.setattr(sharing, "BATCH", 3)
    name = study(parameters={"sparsities": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]})
    cells = load_study(name).cells
    for n, cell in enumerate(cells[:-1]):
        store.write(cell, ROWS.assign(score=float(n)), REPORT, MADE)
    return name, [cell.key for cell in cells]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Call it to go on with another machine's store, which is empty."""
    return lambda: monkeypatch.setenv("KC_RESULTS", str(tmp_path / "other")) or tmp_path / "other"


def counts(report):
    """Evaluations copied now, of the study, at the destination before, and not to be had."""
    return tuple(map(int, re.findall(r"\b\d+", report)))


def records_at(url):
    """How many records an interrupted copy has left; each has its rows."""
    there = set(fsspec.filesystem("s3", use_listings_cache=False).find(url))
    records = {path for path in there if path.endswith("cell.json")}
    assert {path.replace("cell.json", "rows.parquet") for path in records} <= there
    return len(records)


def test_a_round_trip(stored, url, results, elsewhere):
    assert counts(sharing.push(stored[0], url)) == (6, 7, 0, 1)
    other = elsewhere()
    assert counts(sharing.pull(stored[0], url)) == (6, 7, 0, 1)
    assert counts(sharing.pull(stored[0], url)) == (0, 7, 6, 1)
    assert len(files(results)) == 12 and files(results) == files(other)
    assert all((results / file).read_bytes() == (other / file).read_bytes() for file in files(results))


def test_an_upload_that_fails_half_way_is_begun_again_there(stored, s3):
    s3.before = lambda: "refuse" if s3.seen.count("PUT") > 7 else None  # of twelve: rows of the second three
    with pytest.raises(MissingData, match=f"cannot read or write {s3.url}: (Access Denied|Forbidden)"):
        sharing.push(stored[0], s3.url)
    s3.before = None
    assert records_at(s3.url) == 3
    s3.seen = []
    assert counts(sharing.push(stored[0], s3.url)) == (3, 7, 3, 1)
    assert s3.seen == ["GET"] + 6 * ["PUT"], "one listing, and what was not there"


def test_ctrl_c_leaves_what_can_be_continued(stored, s3, elsewhere):
    command = [sys.executable, "-m", "kc_utils", "study", "push", stored[0], s3.url]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    process, once = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment), iter([signal.SIGINT])
    s3.before = lambda: [process.send_signal(this) for this in once] if s3.seen.count("PUT") > 7 else None
    _, error = process.communicate()
    assert process.returncode == 130 and "kc: stopped; finished evaluations are kept" in error and "Traceback" not in error
    s3.before = None
    records = records_at(s3.url)
    assert counts(sharing.push(stored[0], s3.url)) == (6 - records, 7, records, 1)
    elsewhere()
    assert counts(sharing.pull(stored[0], s3.url)) == (6, 7, 0, 1)


def test_what_is_damaged_or_misnamed_is_refused(stored, url, elsewhere):
    name, keys = stored
    sharing.push(name, url)
    (damaged, renamed, unmarked, *whole, _), remote = keys, sharing.Remote(url)
    ((record, rows),) = remote.read([damaged]).values()
    remote.write({damaged: (record, rows[:-1] + b"?"), renamed: remote.read(whole)[whole[0]]})
    remote.files.rm(f"{remote.root}/{unmarked[:2]}/{unmarked}/cell.json")
    elsewhere()
    with pytest.raises(MissingData, match="copied 3 of 7 evaluations of test; here before: 0; not there: 2; refused: 2") as error:
        sharing.pull(name, url)
    assert str(error.value).endswith(f"pushed again: {damaged} is damaged, {renamed} is another evaluation")
    assert [store.has(key) for key in keys] == [key in whole for key in keys]


def test_what_is_cut_is_replaced_and_what_another_machine_made_stays(stored, url, elsewhere):
    name, keys = stored
    sharing.push(name, url)
    remote = sharing.Remote(url)
    first, second, *_ = remote.read(keys[:2]).values()
    remote.write({keys[0]: (first[0], first[1][:-20])})
    elsewhere()
    for cell in load_study(name).cells[:2]:
        store.write(cell, ROWS, REPORT | {"made": "elsewhere"}, MADE)
    assert counts(sharing.push(name, url)) == (1, 7, 1, 5)
    assert b"elsewhere" in remote.read(keys[:1])[keys[0]][0] and remote.read(keys[1:2])[keys[1]] == second


def test_a_url_that_cannot_be_used_is_one_line(kc, stored, s3, tmp_path, monkeypatch):
    def refused(command, url):
        code, _, error = kc("study", command, stored[0], url)
        assert code and error.startswith("kc: ") and error.count("\n") == 1
        return error

    monkeypatch.setitem(sys.modules, "gcsfs", None)
    assert "cannot open gs://bucket/shared: Please install gcsfs" in refused("push", "gs://me:secret@bucket/shared")
    assert "cannot open abc://x: Protocol not known: abc" in refused("push", "abc://x")
    assert "cannot open s3://" in refused("push", "s3://")
    assert "The specified bucket does not exist" in refused("push", "s3://not-there/shared")
    assert "holds no evaluation of test" in refused("pull", s3.url)
    assert "holds no evaluation of test" in refused("pull", str(tmp_path / "nothing"))
    s3.before = lambda: "refuse"
    assert "cannot read or write" in refused("pull", s3.url)
