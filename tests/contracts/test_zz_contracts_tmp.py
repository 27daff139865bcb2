import sys

sys.path[:0] = ["/work/main/tests", "/work/main/tests/contracts"]
import pytest, os
from contracts import test_schema_fuzz as f


@pytest.mark.parametrize("role", ["admin", "user"])
def test_new(role, own_database):
    s = f.make_schema(own_database, f.People(own_database, role, 300)).include(path_regex=os.environ["ONLY"])
    o = f.run(s)
    print(role, o.sent, dict(o.statuses), dict(o.by_operation))
    if o.failures:
        pytest.fail("\n\n".join(f"{n}\n{w}" for n, w in sorted(o.failures.items())), pytrace=False)
