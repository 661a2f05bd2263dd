"""How good a map is: objects found (`objects`), outlines met (`boundary`), and a picture of both (`picture`)."""
