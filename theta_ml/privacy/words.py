"""Word lists of the rules."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


PUBLIC = _words(
    """
    localhost example.com example.org example.net wikipedia.org wikimedia.org wikibooks.org wiktionary.org w3.org
    ietf.org rfc-editor.org iana.org unicode.org gnu.org kernel.org kernelnewbies.org debian.org ubuntu.com
    ubuntuforums.org launchpad.net askubuntu.com stackoverflow.com stackexchange.com superuser.com serverfault.com
    canonical.com kubuntu.org xubuntu.org lubuntu.net edubuntu.org ubuntu-nl.org ubuntulinux.org ubuntulinux.nl
    ubuntuguide.org medibuntu.org gnome-look.org kde-look.org gnomefiles.org linuxquestions.org freshmeat.net
    cyberciti.biz howtogeek.com itsfoss.com freedesktop.org gnome.org kde.org xfce.org x.org archlinux.org
    gentoo.org fedoraproject.org redhat.com centos.org opensuse.org linuxmint.com linux.org linux.com tldp.org
    linuxfoundation.org freebsd.org openbsd.org netbsd.org python.org readthedocs.io readthedocs.org
    rust-lang.org golang.org go.dev nodejs.org ruby-lang.org perl.org
    php.net cppreference.com llvm.org java.com oracle.com openjdk.org apache.org nginx.org nginx.com
    mysql.com postgresql.org sqlite.org mongodb.com redis.io kubernetes.io git-scm.com mozilla.org
    mozilla.com chromium.org google.com microsoft.com apple.com adobe.com intel.com amd.com nvidia.com ibm.com
    hp.com dell.com lenovo.com samba.org openssh.com openssl.org cups.org alsa-project.org winehq.org videolan.org
    xmms.org mplayerhq.hu sourceforge.net freenode.net libera.chat virtualbox.org vmware.com pytorch.org
    tensorflow.org arxiv.org doi.org nature.com britannica.com imdb.com bbc.com bbc.co.uk cnn.com
    nytimes.com reuters.com theguardian.com nasa.gov nih.gov cdc.gov who.int un.org europa.eu
    """
)
"""Registered domains whose pages are nobody's own; their subdomains count as well."""

NO_NAME = _words(
    """
    i a an the this that these those there here my your his her our their its it we you he she they who me what when
    where why how which if so and or but not no yes yeah yep nope ok okay sure please sorry thanks thank hi hello
    hey dear good great nice well fine very just also all any some every everyone everybody anyone someone nobody
    sir madam customer support team friend friends guys folks man dude sweetie honey god lord jesus christ world is
    are was were be am do does did can could will would shall should may might must have has had let get got go
    going gonna looking monday tuesday wednesday thursday friday saturday sunday january february march april june
    july august september october november december christmas easter halloween thanksgiving english german french
    spanish greek dutch chinese irish swiss thai arab jew jewish muslim christian catholic hindu buddhist polish
    czech russian american african asian european canadian mexican indian australian italian japanese korean
    british scottish welsh turkish danish finnish swedish norwegian portuguese ubuntu linux windows debian kubuntu
    xubuntu gnome kde google facebook apple microsoft android iphone amazon netflix youtube twitter wikipedia
    internet tv pc usb cd dvd dr mr mrs ms miss mx for from to of in on at by with as about after before both then
    now today tomorrow tonight yesterday morning evening maybe perhaps im ive id pepper strangelove dos seuss robot
    mom mum dad mommy daddy order much check enjoy see note since because while right true only really actually
    pretty too like want need
    """
)
"""What follows a cue with a capital, and is no name: sentences begin so, and peoples, days, products are so written."""

WORD_AND_NAME = _words(
    """
    will may mark rose hope grace bill faith joy art grant rich jack drew chase summer autumn ivy lily long young
    brown white black green king day
    """
)
"""Names that are words as well: after a cue they are names, elsewhere they are not looked for."""

PARTICLES = _words("van von de der den del della di da dos du la le el al bin ibn ter af zu")
"""Small words within names."""
