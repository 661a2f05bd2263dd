"""Objects through time: scenes of one place at several dates, what stayed, appeared, vanished, grew or shrank.

dates      when a scene was taken
series     scenes of several dates on one grid; `register` finds how far they lie off each other
follow     objects through the dates; `tracks` which outlines of a date are which objects
settle     whether each is there at each date, by the `chain` of all dates
carry      masks that SAM2's memory carries to a date
change     what became of each object, gain and loss, with their uncertainty
layers     the GeoPackage; `page` the report
run        the verb `track`
"""
