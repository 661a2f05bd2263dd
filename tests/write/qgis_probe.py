"""Says as JSON what QGIS makes of files; run by the Python of QGIS, which is none of the project's.

python3 qgis_probe.py LAYER...    a raster, a vector file, or FILE|layername=NAME
"""

from __future__ import annotations

import json
import sys

from qgis.core import Qgis, QgsApplication, QgsRasterLayer, QgsRenderContext, QgsVectorLayer


def probe(uri: str) -> dict:
    """What a person sees of a layer that was dropped into QGIS, which loads default metadata and style just so."""
    raster = uri.partition("|")[0].endswith(".tif")
    layer = QgsRasterLayer(uri, "layer") if raster else QgsVectorLayer(uri, "layer", "ogr")
    if not layer.isValid():
        return {"valid": False}
    layer.loadDefaultMetadata()
    layer.loadDefaultStyle()
    about = layer.metadata()
    told = {
        "valid": True,
        "crs": layer.crs().authid(),
        "title": about.title(),
        "abstract": about.abstract(),
        "history": about.history(),
        "rights": about.rights(),
        "licences": about.licenses(),
        "renderer": layer.renderer().type(),
    }
    if raster:
        bands = range(1, layer.bandCount() + 1)
        told["bands"] = [[layer.bandName(band), layer.dataProvider().bandScale(band)] for band in bands]
        if told["renderer"] == "paletted":
            told["legend"] = [[entry.value, entry.color.name(), entry.label] for entry in layer.renderer().classes()]
        return told
    return {**told, "rows": layer.featureCount(), "columns": layer.fields().names(), "drawn": drawn(layer)}


def drawn(layer: QgsVectorLayer) -> dict[str, list[str]]:
    """Colour and dash of each feature's outline, by its id; nothing where a feature is not drawn."""
    context = QgsRenderContext()
    context.setExpressionContext(layer.createExpressionContext())
    renderer, found = layer.renderer().clone(), {}
    symbols = {item.ruleKey(): item.symbol().clone() for item in renderer.legendSymbolItems()}
    renderer.startRender(context, layer.fields())
    for feature in layer.getFeatures():
        context.expressionContext().setFeature(feature)
        for key in renderer.legendKeysForFeature(feature, context) & set(symbols):  # less the key of all rules
            look = symbols[key].symbolLayer(0).properties()
            kind = "line" if "line_color" in look else "outline"
            found[str(feature["id"])] = [look[f"{kind}_color"], look[f"{kind}_style"]]
    renderer.stopRender(context)
    return found


application = QgsApplication([], False)
application.initQgis()
sys.stdout.write(json.dumps({"version": Qgis.QGIS_VERSION, "layers": [probe(uri) for uri in sys.argv[1:]]}))
application.exitQgis()
