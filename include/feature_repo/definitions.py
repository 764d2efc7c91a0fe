"""What Feast knows, derived from `adnomaly.features`.

`feast apply` reads this file; it must be the only Python file of this folder.
"""

from adnomaly.clients.feast import definitions
from adnomaly.wiring import connect

geo, platform, source, traffic_windows, scoring = definitions(connect().offline_features.mirror)
