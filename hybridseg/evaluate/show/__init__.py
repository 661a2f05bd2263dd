"""What was found, to look at: outlines over a scene (`picture`), curves (`charts`), the worst objects (`worst`).

`html` puts them on one page, after `report.html.jinja`.
"""
