"""The paper's experiments, one after another: `python scripts/reproduce_paper.py`.

scale         how much of each experiment is run
lab           the folder of a report: its runs, and what was found in them
note_states   the experiments of section 3.1
vocabulary    those of section 3.2
together      those of both: sound, references, one against the other
claims        what the paper says, judged by what was found
report        report.html and summary.md
"""
