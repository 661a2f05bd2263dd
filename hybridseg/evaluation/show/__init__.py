"""Pictures and pages: outlines over a scene (`picture`), and a report as one HTML file (`page`)."""
