"""Objects through time: scenes of one place at several dates, what stayed, appeared, vanished, grew or shrank.

dates      when a scene was taken
series     scenes of several dates on one grid; `register` finds how far they lie off each other
tracks     which outlines of different dates are one object; `evidence` what a heatmap says of an outline
carry      masks that SAM2's memory carries to a date
follow     the loop over the dates
change     what became of each object, gain and loss, with their uncertainty
layers     the GeoPackage; `page` the report
run        the verb `track`
"""
