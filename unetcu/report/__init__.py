"""Pages that tell how good a network is: one HTML file each, which needs nothing beside it.

    run.write(loop, prepared, predicted, rule, asked)     RUN/report.html, of a training
    evaluation.page(name, what, result, compared, ...)    of `unetcu evaluate --html FILE`

A page loads nothing and says so to the browser (a strict Content-Security-Policy); it can be read
without its script, on paper and on a phone. The same numbers give the same bytes: no date, no
duration, no folder of the machine is in it.
"""
