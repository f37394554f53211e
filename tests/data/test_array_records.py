"""Thousands of shards are read with few of them open, and what the system refuses is not called damage."""

import json
import subprocess
import sys
import textwrap

import pytest
from array_record.python.array_record_module import ArrayRecordWriter

from cm3leon_jax.data.array_records import ArrayRecords, Damaged, read_record

SHARDS, RECORDS = 400, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    for number in range(SHARDS):
        writer = ArrayRecordWriter(str(folder / str(number)), "group_size:1,zstd")
        for record in range(RECORDS):
            writer.write(f"{number}/{record}".encode())
        writer.close()
    return folder


def run(folder, limit, body):
    """A process that may have `limit` files open -> what it prints, as JSON."""
    script = f"""
        import concurrent.futures, errno, json, os, random, resource
        resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))
        from cm3leon_jax.data.array_records import ArrayRecords
        from cm3leon_jax.runtime.errors import UserError

        paths = [os.path.join({str(folder)!r}, str(number)) for number in range({SHARDS})]
        records = ArrayRecords([(path, 0, {RECORDS}) for path in paths])
    """
    source = textwrap.dedent(script) + textwrap.dedent(body)
    process = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr[-2000:]
    return json.loads(process.stdout)


def test_more_shards_than_files_may_be_open(folder):
    found = run(
        folder,
        64,
        f"""
        order = random.Random(0).choices(range(len(records)), k=4000)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            read = list(pool.map(lambda index: records[index].decode(), order))
        right = [f"{{index // {RECORDS}}}/{{index % {RECORDS}}}" for index in order]
        print(json.dumps([len(records), read == right, len(os.listdir("/proc/self/fd"))]))
        """,
    )
    assert found[:2] == [SHARDS * RECORDS, True] and found[2] < 40


def test_the_true_cause_is_named_when_the_system_refuses(folder):
    message = run(
        folder,
        64,
        """
        taken = []
        try:
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError as error:
            assert error.errno == errno.EMFILE
        try:
            records[5]
        except UserError as error:
            print(json.dumps(str(error)))
        """,
    )
    assert "Too many open files" in message and "ulimit -n" in message and "damaged" not in message


def test_parts_of_files_and_damage(folder, tmp_path):
    records = ArrayRecords([(str(folder / "7"), 1, 2), (str(folder / "9"), 0, 1)])
    assert [records[index] for index in range(len(records))] == [b"7/1", b"7/2", b"9/0"]
    for bad in (b"", b"not a record file", (folder / "3").read_bytes()[:-10]):
        (tmp_path / "bad").write_bytes(bad)
        with pytest.raises(Damaged):
            read_record(str(tmp_path / "bad"), 0)
    with pytest.raises(Damaged, match="missing"):
        read_record(str(tmp_path / "none"), 0)


def test_another_file_of_the_same_name_is_read_anew(folder, tmp_path):
    path = tmp_path / "shard"
    for number in (3, 4):
        path.unlink(missing_ok=True)
        path.write_bytes((folder / str(number)).read_bytes())
        assert read_record(str(path), 1, key=number) == f"{number}/1".encode()
