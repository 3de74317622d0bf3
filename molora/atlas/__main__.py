import sys

from molora.atlas.run import main

sys.exit(main())
