"""A run to read: tables on a terminal, and the folder of `--out`.

`tables` has every cell once, with what it sorts by, for `terminal`, `summary` (Markdown) and `page` (HTML, with page.css and
page.js); `amounts` writes numbers, `headline` has means of speed-ups, `scaling` fits time against length. `plots` draws
`plot_speeds`, `plot_lengths` and `plot_roofline` in one `plot_style`. `folder` writes it all.
"""
