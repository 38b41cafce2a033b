"""Texts of the help pages of the command `skmars`."""

from __future__ import annotations

OVERVIEW = """\
Click prediction for users with hardly any history, from files.

A log has one row an event (who, which item, when, clicked or not), a table of items
one row an item (id, title, text, path of a picture). skmars learns from both what people
click, and lets users with short histories borrow from similar ones (arXiv 2509.01184).
Tables are .parquet or .csv files; models are folders."""

EXAMPLES = """\
from a log to predictions:
  skmars fit log.parquet --items items.parquet --out model
  skmars predict model candidates.csv --out clicks.csv
  skmars recommend model --user-id 42

to see which model suits your data, in one command:
  skmars compare log.parquet --items items.parquet

to measure a model, keep each user's last impressions out of training, and score them:
  skmars fit log.csv --items items.csv --holdout last --out trial
  skmars evaluate trial log.csv

exit codes: 0 success; 1 the data or the model can't be used, one line on stderr says why
(--traceback shows where in the program); 2 the arguments are wrong; 130 interrupted.
Only results go to stdout. An output file is complete or not written at all, and --out
refuses the name of an input.

CSV files are UTF-8 text with a header line; commas, semicolons or tabs separate values.
In place of one table, - reads CSV from standard input.
Ids keep their kind: a column of plain integers (no 007, +7, 7.0, none from 2**63) holds
integers, any other column strings, in all tables of a model. With `skmars fit --ids strings`
all ids are strings, as they are written.

A model is a folder of plain data: opening one runs no code in it, and one that was damaged is
not opened. An earlier model of the same name is replaced when the new one is complete. It holds
the histories of the users in the log, and the names of columns and format of times with which
it was fitted: other commands read further tables in the same way."""

COLUMNS = """\
columns: the log has user_id, item_id, clicked (0/1) and, if there is one, timestamp; the items
have item_id, title, text, image. Options give other names. Paths of images are relative to the
folder of ITEMS.

times: dates like 2026-01-31, 2026-01-31 18:30:00 or 2026-01-31T18:30:00+01:00, all of them with
a zone or none, or numbers of seconds. All else is told by --time-format, and nothing is guessed:
%d/%m/%Y for 31/01/2026 (the formats of Python's strptime), or the unit of numbers: milliseconds,
microseconds, nanoseconds, or seconds where they look like something else.

attributes: --attributes names columns of ITEMS (price, category, genres), --users a table of users
and --user-attributes some of its columns. Numbers and strings are told apart as for context;
--list-separator splits texts such as Action|Comedy into lists.

context: further columns that are known when the item is shown, such as device or hour. In a CSV
file, a column holds numbers if all its values are numbers (no 007), otherwise strings. Rows to
predict must have them, too.

history: what the user did strictly before the row. Rows of the same time (a page, a slate) are
in none of each other's histories, and a row without a time is in nobody's. Without times the
order of the rows counts, or the column that --order names."""

FIT_EXAMPLES = """\
examples:
  skmars fit log.parquet --items items.parquet --out model
  skmars fit ratings.csv --items films.csv --user member --item film --time rated_at \\
      --label stars --click-from 4 --history all --text plot --out films
  skmars fit orders.csv --items goods.csv --user customer --item sku --ids strings \\
      --time at --time-format "%d/%m/%Y %H:%M" --label bought --context device,hour \\
      --out shop
  skmars fit clicks.csv --items items.csv --negatives 4 --out clicks
  skmars fit log.csv --base --out din
  skmars fit log.csv --items items.csv --out m \\
      --set augment__theta=0.3 --set ctr__max_iter=20 --set align__n_components=64
  skmars fit log.csv --items items.csv --out m \\
      --set "encode__encoders={'text': 'all-MiniLM-L6-v2'}"

a log of clicks alone needs --negatives. Probabilities are then those of a click among N other
items drawn for it: right for ranking, too high as the share of clicks.

steps and their parameters (--set STEP__PARAM=VALUE): encode = MultimodalEncoder,
align = SteinAligner, augment = SequenceRetrievalAugmenter, ctr = DINClassifier.
https://skmars.readthedocs.io describes them."""

ROWS = """\
ROWS has one row a prediction: a user and an item, in columns with the names of the log's, and the
context columns if the model has any. Users and items may be new. If it has the time column, a
row's history is what the user did strictly before its time, otherwise all that the user has done.

histories come from --log LOG if that is given, else from a list column 'history' of ROWS
(Parquet only), else from the log that the model was fitted on."""

PREDICT_EXAMPLES = """\
examples:
  skmars predict model candidates.csv --out clicks.parquet
  skmars predict model candidates.csv --log log-until-today.parquet > clicks.csv
  sqlite3 -csv -header shop.db "select ..." | skmars predict model -

The output has the rows of ROWS in their order: user, item, time, probability."""

RECOMMEND_EXAMPLES = """\
USERS has one row a user, and the context columns if the model has any. If it has the time column,
a user's history is what they did strictly before that time, otherwise all that they have done.
Histories come from --log LOG if that is given, else from the log that the model was fitted on.

examples:
  skmars recommend shop --user-id 0042
  skmars recommend shop --user-id 0042 --with device=app --with hour=18
  skmars recommend shop --out best.parquet
  skmars recommend shop newsletter.csv -n 3 --log log-until-today.csv
  skmars recommend shop --candidates in-stock.csv --user-id 0042 --user-id 0043

The output has the best items of each user, best first: user, (time,) rank, item, title,
probability. Items of the user's history are left out; with `skmars fit --history positive` that
is what they clicked, not all that they were shown."""

EXPLAIN_EXAMPLES = """\
examples:
  skmars explain model candidates.csv --words
  skmars explain model candidates.csv --out borrowed.parquet

The output has one line a borrowed item, and one for each row that borrows nothing: the row (from
0), user, item, time, title and probability; activity and length of the history; the reason why
nothing is borrowed; how many users touched the item, and what they count for by how alike they
are; the donor and how alike they are, the borrowed item, its title and how similar it is."""

COMPARE_EXAMPLES = """\
Models are fitted without the last impressions of each user, and tested on them. The recommended one
is the simplest, unless a more complex one is significantly better.

examples:
  skmars compare log.csv --items items.csv
  skmars compare orders.csv --items goods.csv --user customer --item sku --label bought \\
      --without MARS --out figures.csv
  skmars compare clicks.csv --items items.csv --negatives 4

The output is the table and the recommendation as text; --out has all figures."""

EVALUATE_EXAMPLES = """\
examples:
  skmars fit log.csv --items items.csv --holdout last --out trial
  skmars evaluate trial log.csv
  skmars fit log.csv --items items.csv --split-at 2026-01-31 --out trial
  skmars evaluate trial log.csv
  skmars evaluate model other-users.csv --holdout none
  skmars evaluate model today.csv --log log-until-yesterday.csv

The history of a row is what --log (LOG itself without that option) has of the user strictly
before it. Where there are no times, --log must not hold the rows of LOG.

The output has AUC (over all rows), GAUC (within each user, then averaged) and the AUC of
low-active users: the 30 percent with the shortest histories."""

RUNNER_EXAMPLES = """\
examples:
  skmars runner --log logs/ --model shop/ --store lmdb:shop.store
  skmars runner --log logs/ --model shop/ --store redis://localhost:6379/0 --every 60s

The log has the columns of the log that the model was fitted on; context is not read. A column
event_id, if there is one, tells events apart; otherwise their user, item, time and click do.
What was loaded is remembered in the store: the next pass reads further files, and further
rows of a file that has grown. Rows that were loaded may not change. Of a folder, files whose
names begin with . or _ are left out; write them so, and rename them when they are complete.

exit codes: 75 if another runner works for the store, or may have begun since; 143 if it was
asked to end (SIGTERM). A runner that was killed is begun again with the same command."""

REFIT_EXAMPLES = """\
examples:
  skmars refit --model shop/ --store lmdb:shop.store
  skmars refit --model shop/ --store lmdb:shop.store --items new-items.parquet
  skmars fit log.parquet --items items.parquet --context device --out shop-2
  skmars refit --model shop/ --store lmdb:shop.store --fitted shop-2

The new model has the parameters and columns of the current one. It becomes a folder of its own in
MODEL (fits/1, fits/2, ...), gets a pool, is tried, and takes over; service, runner and trainer
follow. Until then, and if anything fails, the current one stays. A model with context columns is
fitted to the log (`skmars fit`) and taken with --fitted, since a store does not keep the context
of a log.

exit codes: 1 also if the new model is refused; 75 if another refit works for the store; 143 if it
was asked to end (SIGTERM)."""

TRAINER_EXAMPLES = """\
examples:
  skmars trainer --model shop/ --store lmdb:shop.store
  skmars trainer --model shop/ --store redis://localhost:6379/0 --sync-every 5m --validate-on 200
  skmars trainer --model shop/ --store lmdb:shop.store --once

The last step of the model learns each event of the stream once, with the history that was known
when it was shown. When --sync-every is over, what was learnt is tried on the events that come next.
Unless it is worse, it becomes a version (params/1, params/2, ... in MODEL), which the service
switches to. A version needs --validate-on events; where fewer come in that time, it waits for them.

exit codes: 75 if another trainer works for the store, or may have begun since; 143 if it was
asked to end (SIGTERM): it writes a checkpoint first. A trainer that was killed is begun again with
the same command, and learns what it would have."""

ROLLBACK_EXAMPLES = """\
examples:
  skmars rollback params/2 --model shop/ --store lmdb:shop.store
  skmars rollback fits/1 --model shop/ --store lmdb:shop.store

The version is loaded and tried before it takes over. Parameters and pools are those of the current
model, and what makes them must not run: stop the trainer for the one, the runner for the other.
Begun again, the trainer goes on from these parameters, and learns again what came since; the next
pass of the runner makes a new pool. A model comes back with the parameters and the pool that it
had.

exit codes: 1 if there is no such version or it does not work, and nothing has changed; 75 if a
trainer (runner, refit) works for the store: stop it first."""

EXPORT_EXAMPLES = """\
examples:
  skmars export --model shop/ --store lmdb:shop.store --out log.parquet

The file has the columns of the log of the model (user, item, time, label), and all events, those
of the log and those that came through the service. It has no context. Read with the options of the
model's own fit, it is the log that `skmars refit` fits to."""

SERVE_EXAMPLES = """\
examples:
  skmars serve --model shop/ --store lmdb:shop.store
  skmars serve --model shop/ --store redis://localhost:6379/0 --workers 4 \\
      --host 0.0.0.0 --token-file token

  curl localhost:8000/events -H 'content-type: application/json' \\
      -d '{"events": [{"user_id": 42, "item_id": 7, "time": 1.7e9, "clicked": true}]}'
  curl localhost:8000/score -H 'content-type: application/json' \\
      -d '{"users": [{"user_id": 42, "item_ids": [7, 8, 9]}]}'
  curl localhost:8000/recommend -H 'content-type: application/json' \\
      -d '{"user_id": 42, "n": 10}'

/docs describes all of it, /health and /ready are for a load balancer, /metrics for Prometheus.
With a token, requests need the header "authorization: Bearer TOKEN" (but for /health).

The store says which versions of the model and its pool of donors are current; the service looks
every second and switches without losing a request. SIGTERM ends it: what has come is answered."""

REPLAY_EXAMPLES = """\
examples:
  skmars replay scores.jsonl --model shop/ --store lmdb:shop.store

Each logged request is scored with the parameters and the pool that it was scored with, and with
the events that the store had then. The output says how far the scores are from the logged ones,
and which versions are gone. The exit code is 1 if a score differs by more than --tolerance."""
