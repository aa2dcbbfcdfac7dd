r"""Encodes songs as a corpus folder, and says what was left out and why.

    python -m musicjax.encode --config=configs/vocab.py --output=corpora/mine --report \
        --config.data.source=/my/midi --config.data.track=piano

What comes out does not depend on how many workers there are. Stopped at any moment, the same
command goes on. musicjax.train encodes by itself, and caches.
"""

from pathlib import Path
from typing import Any

from musicjax import api, cli
from musicjax.corpus import build, store
from musicjax.corpus.store import Corpus
from musicjax.errors import InputError


def _define_flags() -> None:
    from absl import flags

    cli.define_config()
    flags.DEFINE_string("output", None, "Corpus folder to write; must not exist.", required=True)
    flags.DEFINE_bool(
        "report",
        False,
        "Write a page about the corpus, OUTPUT/report/index.html, also if the corpus exists.",
    )
    flags.DEFINE_integer("workers", None, "Processes that encode; default: one a core.")


def _main(flags: Any) -> None:
    if flags.workers is not None and flags.workers < 1:
        raise InputError(f"workers is {flags.workers}; expected at least 1")
    output = Path(flags.output)
    if flags.report and store.is_corpus(output):
        corpus, plan = Corpus.load(output), build.make_plan(flags.config.data)
        if plan is None or corpus.manifest["fingerprint"] != plan.fingerprint:
            raise InputError(
                f"{output} already exists, and was made of other files or with other settings; "
                "give another --output or delete it"
            )
    else:
        corpus = api.encode(flags.config, output, workers=flags.workers)
    print(build.describe(corpus))
    print(f"files left out are listed in {output}/skipped.jsonl")
    if flags.report:
        from musicjax.corpus import report

        print(f"the report is {report.write_report(corpus, output / 'report')}")


if __name__ == "__main__":
    cli.run(_main, _define_flags)
