"""What every service needs; knows no service. Its packages part what reaches which system."""
