"""Answers of MongoDB that come in several batches, while others read as well."""

from contextlib import ExitStack
from typing import Any

from harness import unique, with_database
from server.store.connection import connect, found

MORE_THAN_A_BATCH = 10_500


class SharedDatabase:
    """A database of whose client somebody else uses a session, from after each command on."""

    def __init__(self, database: Any, others: ExitStack) -> None:
        self.client = database.client
        self._database = database
        self._others = others

    def command(self, *arguments: Any, **options: Any) -> Any:
        """Carry out a command; then the session that is free goes to somebody else."""
        answer = self._database.command(*arguments, **options)
        session = self._others.enter_context(self.client.start_session())
        self._database.command("ping", session=session)
        return answer


async def test_a_large_answer_is_read_whole_while_others_read(mongodb_uri: str) -> None:
    """The next batch of an answer is asked for in the session of the first, as MongoDB demands."""
    with (
        connect(with_database(mongodb_uri, unique("large_answers"))) as database,
        ExitStack() as others,
    ):
        await database["numbers"].insert_many([{"_id": one} for one in range(MORE_THAN_A_BATCH)])
        shared: Any = SharedDatabase(database.delegate, others)

        answer = found(shared, "numbers", {}, sort={"_id": 1})

        await database.client.drop_database(database.name)
    assert [document["_id"] for document in answer] == list(range(MORE_THAN_A_BATCH))
