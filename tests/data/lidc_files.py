"""LIDC's XML files, written as the readers' software wrote them."""

from __future__ import annotations

from pathlib import Path

NAMESPACE = "http://www.nih.gov"


def outline(z_mm, points, inclusion=True):
    """Write a roi: points are pixels (x, y)."""
    edge = "".join(
        f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in points
    )
    return (
        f"<roi><imageZposition>{z_mm} </imageZposition><imageSOP_UID>1.2.3</imageSOP_UID>"
        f"<inclusion>{str(inclusion).upper()}</inclusion>{edge}</roi>"
    )


def nodule(*rois, **ratings):
    """Write an unblindedReadNodule."""
    rated = "".join(f"<{name}>{value}</{name}>" for name, value in ratings.items())
    rated = f"<characteristics>{rated}</characteristics>" if ratings else ""
    return (
        f"<unblindedReadNodule><noduleID>N</noduleID>{rated}{''.join(rois)}</unblindedReadNodule>"
    )


def other(z_mm, x, y):
    """Write a nonNodule."""
    return (
        f"<nonNodule><nonNoduleID>M</nonNoduleID><imageZposition>{z_mm}</imageZposition>"
        f"<imageSOP_UID>1.2.3</imageSOP_UID><locus><xCoord>{x}</xCoord><yCoord>{y}</yCoord></locus>"
        "</nonNodule>"
    )


def write_xml(path: Path, series_uid, *sessions, namespace=NAMESPACE, root="LidcReadMessage"):
    """Write an XML file; each session is a list of what one reader marked."""
    read = "".join(
        "<readingSession><servicingRadiologistID>anonymous</servicingRadiologistID>"
        f"{''.join(marks)}</readingSession>"
        for marks in sessions
    )
    declared = f' xmlns="{namespace}"' if namespace else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} uid="null"{declared}><ResponseHeader>'
        f"<SeriesInstanceUid>{series_uid}</SeriesInstanceUid></ResponseHeader>{read}</{root}>"
    )
    return path
