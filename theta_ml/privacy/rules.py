"""All rules, in their order: earlier ones win. A URL may hold a key or what looks like a mail address."""

from theta_ml.privacy.credentials import SECRET
from theta_ml.privacy.identity import NATIONAL_ID, SSN
from theta_ml.privacy.names import NAME
from theta_ml.privacy.network import EMAIL, IP, URL
from theta_ml.privacy.numbers import CARD, IBAN, PHONE
from theta_ml.privacy.streets import ADDRESS

RULES = (URL, SECRET, EMAIL, IBAN, CARD, IP, SSN, NATIONAL_ID, ADDRESS, PHONE, NAME)
